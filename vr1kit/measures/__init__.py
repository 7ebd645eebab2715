"""What evaluation measures: AP, accuracy, confidence, errors, intervals."""
