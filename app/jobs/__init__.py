"""What runs in the worker thread: merges, pictures, exports; and the queue in front of it."""
