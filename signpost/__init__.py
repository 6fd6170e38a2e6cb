"""A/B boot state in the GPT: which partition set boots next, and how that is changed."""
