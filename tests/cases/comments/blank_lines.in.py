


import os   



import sys
	
def f():



    x = 1
  
    # between


    # two comments

    y = """


    three newlines in a string stay   
    """



    return x, y





def g():
    pass


