# Rules of actions: a postfix program that the host compiled from the node file's `when`.
#
# An int is an index into the table of stage values, [x] is the constant x, a text is an operator. A value that is not
# known (the stage is still learning, or has failed) is None; a comparison with it is not known either, and `and`, `or`
# and `not` follow Kleene: a rule fires only when it is true whatever the unknown is.
# Pure: no imports, so it runs on MicroPython, CircuitPython and CPython alike.


def evaluate(program, values, stack):
    # Whether the rule holds. stack: a list of at least len(program) places, so that evaluating allocates nothing.
    top = -1
    for item in program:
        if item == "not":
            stack[top] = None if stack[top] is None else not stack[top]
        elif isinstance(item, str):
            top -= 1
            stack[top] = _apply(item, stack[top], stack[top + 1])
        else:
            top += 1
            stack[top] = item[0] if isinstance(item, list) else values[item]
    return stack[0] is True


def _apply(operator, a, b):
    if operator == "and":
        if a is False or b is False:
            return False
        return None if a is None or b is None else True
    if operator == "or":
        if a is True or b is True:
            return True
        return None if a is None or b is None else False
    if a is None or b is None:
        return None
    if operator == "==":
        return a == b
    if operator == "!=":
        return a != b
    if operator == "<":
        return a < b
    if operator == "<=":
        return a <= b
    if operator == ">":
        return a > b
    if operator == ">=":
        return a >= b
    raise ValueError("no operator %r" % operator)
