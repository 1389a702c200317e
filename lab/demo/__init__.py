"""What a lab shows by itself: Services answered in strict turn, clients that stay, pods that leave, pings everywhere."""
