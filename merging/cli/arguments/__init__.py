"""What commands read from their arguments: files with strengths, options, judges and workers."""
