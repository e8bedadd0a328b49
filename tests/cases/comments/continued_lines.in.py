x = 1 + \
    2  # the end of it
y = x \
# this ends the statement above, so its line stays, empty
z = 3 \

w = 4  # a comment that ends in a backslash is not continued \
v = 5
# nor is one alone \
u = 6
if x and \
   y:  # a condition
    pass
