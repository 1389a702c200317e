"""The stand-alone IPAM plugin `podwire-ipam`, for main plugins such as the reference bridge and ptp to delegate to."""
