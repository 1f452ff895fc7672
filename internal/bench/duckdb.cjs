// Converts in.csv to duckdb.ndjson: node duckdb.cjs FOLDER-OF-MODULES FOLDER-OF-FILES
const {createRequire} = require('node:module');
const {readFileSync} = require('node:fs');
const [modules, files] = process.argv.slice(2);
const {DuckDBInstance} = createRequire(modules + '/x.js')('@duckdb/node-api');

async function main() {
	const instance = await DuckDBInstance.create(':memory:', {threads: '2'});
	const connection = await instance.connect();
	const began = process.hrtime.bigint();
	await connection.run(`copy (
		select id as "order", name as customer, city, country, qty as quantity, price, qty * price as total, "date" as day, upper(status) as state, note
		from read_csv('${files}/in.csv', header = true, columns = {id: 'bigint', name: 'varchar', city: 'varchar', country: 'varchar', qty: 'bigint',
			price: 'decimal(12,2)', date: 'varchar', email: 'varchar', status: 'varchar', note: 'varchar'})
	) to '${files}/duckdb.ndjson' (format json)`);
	const seconds = Number(process.hrtime.bigint() - began) / 1e9;
	const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
	console.log(JSON.stringify({Seconds: seconds, Peak: peak}));
}

main().catch(error => { console.error(error); process.exit(1); });
