"""What leaves for devices, and what comes back: an endpoint's snapshot cut to a signed bundle, and
the events of those who decided by one."""
