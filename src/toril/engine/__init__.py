"""Where everything is stored: the contract (ports, protocol) and the engines that keep it."""
