x = 1 + \
    2
y = x \

z = 3 \

w = 4
v = 5
u = 6
if x and \
   y:
    pass
