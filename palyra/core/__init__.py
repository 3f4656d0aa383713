"""What is true, free of I/O.  Time and entropy come in; deadlines and events go out."""
