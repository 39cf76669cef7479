"""DOOR for the operator's commands on this machine: a socket in the state directory that only the user of kas may open."""
