"""Programs that run in processes of their own, by file name: nothing here imports anything but the standard library."""
