"""What ``advneg compare`` does: train samplers side by side, resumably, and report."""
