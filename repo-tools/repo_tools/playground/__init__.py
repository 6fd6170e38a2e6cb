"""A machine made of files, with its publisher: to try updates without root or a second computer."""
