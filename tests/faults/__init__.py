"""Every fault that an update must survive, and the test that makes it happen for real.

`tests.helpers.judge` looks at what each leaves. A test holds this table true: every test that it
names is there, and every one of those files is named. `EXPLORE=all` tries every case, not a sample.

test_failing_disks.py -- partition nodes and windows, sectors of 512 and 4096 bytes
    test_a_partition_that_fails
        EIO and ENOSPC on write, EIO on read-back, other bytes than were written, lost writes
    test_the_first_block_that_a_root_partition_gives_back_wrong_is_named
        a device that returns other bytes than were written, in any block
    test_a_hash_tree_that_comes_back_wrong_is_not_taken_for_a_wrong_root
        the same of the tree, which the root is checked against meanwhile
    test_a_partition_that_cannot_be_flushed
        EIO on fsync
    test_a_table_that_cannot_be_written
        EIO on each of the three changes of the boot flags
    test_a_disk_that_vanishes_under_an_update
        a device that vanishes

test_limits.py
    test_an_update_needs_no_more_than_192_mib_of_addresses
        a memory limit of 192 MiB on the process
    test_less_memory_than_an_update_needs_stops_it_in_good_order
        less memory than is needed
    test_writes_that_are_done_in_part_are_gone_on_with
        short writes, every one of them
    test_a_file_system_that_is_full_under_the_image_of_a_disk
        ENOSPC of a file system, after a short write
    test_of_two_updates_at_once_the_second_leaves_and_the_first_succeeds
        two updates at once

test_images.py
    test_an_image_one_byte_larger_than_its_partition
        a partition smaller than the image by one byte, whether that was signed or not
    test_a_frame_that_is_not_whole_or_not_alone
        trailing bytes after the compressed frame, a frame cut short
    test_what_shows_by_its_first_bytes_to_be_no_image_costs_no_set
        bytes that are no frame: found out while both sets are whole
    test_content_that_is_cut_short
        an image and a hash tree shorter than they must be
    test_a_disk_shorter_than_its_partitions
        a disk that ends inside a partition
    test_a_decompression_bomb_in_little_memory
        a decompression bomb

test_lost_networks.py
    test_a_network_that_is_gone_for_good_is_given_up_and_the_next_run_starts_over
        the network gone at every tenth of the download: a body cut short for good
    test_a_network_that_breaks_at_every_tenth_is_gone_on_with_at_the_byte
        the network gone for a moment at every tenth, in one run

test_kills.py
    test_a_kill_at_any_call_leaves_a_machine_that_boots_and_updates
        SIGKILL at every write and flush of an update

test_interruptions.py
    test_an_interruption_at_any_call_says_what_is_left
        SIGTERM, and Ctrl-C, at every write, flush and wait of an update
    test_an_interruption_while_the_flags_are_cleared
        the same while the table is written
    test_an_interrupted_wait
        the same while it waits for the network, for the next attempt, for the disk's lock
    test_an_interrupted_step_on_a_slow_disk
        the same while a slow disk writes, flushes, reads back

test_preconditions.py
    test_a_mounted_partition_is_refused
        the inactive partition is mounted
    test_a_partition_that_another_holds_open_is_refused
        it is open elsewhere
    test_a_missing_node_is_refused_and_not_made
        it is missing
    test_a_regular_file_in_the_place_of_a_node_is_refused
        a regular file is in its place
    test_a_node_of_another_disk_is_refused
        it is on another disk
    test_no_room_for_what_the_machine_remembers_stops_an_update_early
        no room for metadata and history
    test_no_room_for_the_migrations_is_found_before_the_other_set_is_cleared
        no room for migrations
"""
