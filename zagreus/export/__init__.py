"""Models in the formats of other runtimes: files, the gate that each file passes, measurements."""
