"""What can be set: every key with its type and range, protocol files, and how both become one configuration."""
