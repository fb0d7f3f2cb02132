"""The benchmark of ``advneg bench``: this package beside stock PyKEEN, interleaved, and the limits of the machine."""
