"""RunPod's API on this machine, for a GPU at home and for those who write clients."""
