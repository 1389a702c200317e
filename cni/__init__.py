"""The CNI plugin `podwire`: wires and unwires pods, alone or inside the node agent."""
