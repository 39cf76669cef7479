"""How the tables came to be what they are, one file a step.

A file's name says when its step may run: ``pre`` before the new code serves (older code still works with the result), ``post`` only
when no older code is running any more. A step is never edited once released, and it imports nothing from the schema of today.
"""
