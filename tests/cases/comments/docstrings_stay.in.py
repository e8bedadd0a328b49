"""The module.   


# With a line that looks like a comment, and blanks at its ends.   
"""
# a comment


class A:
    """The class."""  # a comment

    def f(self):  # a comment
        '''The method.
        # no comment
        '''
