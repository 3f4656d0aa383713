"""A deterministic simulation: a gateway and its node hosts on simulated time, network and disks.

The rooms are the production's; what is below them (time, sockets, files, threads) and around them
(operators, people at devices, handlers, faults) is simulated, and one seed decides all of it.
"""
