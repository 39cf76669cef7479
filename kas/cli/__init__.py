"""The operator commands of kas, one file each group; they talk to the store and say what went wrong in one line."""
