"""Finds a link for an agent: here, later also at another kas; holds a request while an agent that was just cut dials back."""
