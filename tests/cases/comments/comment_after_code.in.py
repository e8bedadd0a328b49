x = 1  # one
y = 2	# a tab before
z = [  # opening
    1,  # first

    2,
    # alone
]  # closing
if x: # no space
    pass#none at all
