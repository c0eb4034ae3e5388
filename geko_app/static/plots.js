// What all Plotly charts of the page share.

// Nothing is sent anywhere: Plotly's own button would upload the chart.
export const PLOT_CONFIG = {
  responsive: true,
  displaylogo: false,
  plotlyServerURL: '',
  showSendToCloud: false,
  modeBarButtonsToRemove: ['select2d', 'lasso2d', 'sendChartToCloud'],
};
