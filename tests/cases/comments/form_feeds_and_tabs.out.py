import os

def f():
	if os:
		return 1
