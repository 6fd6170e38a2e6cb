"""The commands of `updog`, one a file: options, words and what is printed where."""
