"""What several test suites share: real brokers and etcd clusters as child processes, and worlds to test in.

Lives here: starting, waiting for, breaking and removing them. Does not live here: anything that asserts.
"""
