"""`kas doctor`: on the server's machine, what is wrong with it, its doors, and those whom kas asks. It changes nothing."""
