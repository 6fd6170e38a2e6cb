"""Wave files that come with repo-tools, and `repo-tools waves`."""
