"""Making stage-1, the boot loader in an initramfs: what goes into it, and the forms it takes."""
