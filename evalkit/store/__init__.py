"""What is kept on disk: answers and run folders."""
