import os

# a page break before
def f():
	if os:	# tabs
		return 1
