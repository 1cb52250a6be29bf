"""The cache: values with a time to live, in this process first and in the store behind it, computed once for all."""
