"""Control tasks in pure JAX, and a policy gradient on them."""

from tasks.control._cart_pole import cart_pole
from tasks.control._pendulum import pendulum
from tasks.control.environment import Environment
from tasks.control.policy_gradient import policy_gradient_family

__all__ = ["Environment", "cart_pole", "pendulum", "policy_gradient_family"]
