"""The link's protocol without sockets: dialogues, random schedules of two real ends, hostile ends."""
