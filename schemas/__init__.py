"""What the data is: vocabulary, table schemas, the recipe. Imports nothing from the other folders."""
