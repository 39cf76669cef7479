"""What kas and agentk share: the link between them and the HTTP rules that both ends keep.

Nothing here knows a database, a rule of access or a command line. Neither program imports the other; they meet only here.
"""
