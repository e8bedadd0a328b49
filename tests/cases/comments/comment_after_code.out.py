x = 1
y = 2
z = [
    1,

    2,
]
if x:
    pass
