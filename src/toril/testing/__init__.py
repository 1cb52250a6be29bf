"""What tests need: a clock moved by hand, the suite that every engine must pass, the stress that every service must
survive.
"""
