"""The families that peft alone writes, one file for each."""
