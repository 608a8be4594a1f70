"""Which files a project accepts: lock, policy, signatures."""
