"""Addresses: cluster CIDR → node podCIDR → pod address; ClusterIPs come from the same allocator."""
