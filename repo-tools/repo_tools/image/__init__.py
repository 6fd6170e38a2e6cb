"""Making images and whole disks, and looking into them: the commands of `repo-tools image`."""
