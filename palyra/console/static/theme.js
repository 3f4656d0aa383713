// Not a module, so that it runs before the first paint: the theme that was chosen here, if any.
try {
  const theme = localStorage.getItem("palyra-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage is shut off: the system's own theme stays */ }
