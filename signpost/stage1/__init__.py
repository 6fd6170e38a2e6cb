"""Stage-1: a boot loader in an initramfs, made of signpost's own code and the standard library."""
