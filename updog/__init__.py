"""The update agent: from signed metadata to a proven inactive partition set."""
