"""Thin system calls: descriptors, timed I/O, processes, ids, signals. May import strerr only.

What runs per connection imports the C modules below socket, signal and enum (_socket, _signal): each
spared import is resident memory that every fork of tcpserver would have to copy the page tables of."""
