"""Whether a loss has too little left to gain, live and in logs."""
