"""What every adapter is made of and none has of its own. Nothing here waits, or knows how somebody else does.

Applications find what they need of it in their adapter; whoever writes an adapter of their own takes it from here.
"""
