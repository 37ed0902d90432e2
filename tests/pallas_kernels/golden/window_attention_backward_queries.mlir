// 4 warps, 2 stages
module @window_attention_backward_queries {
  tt.func public @window_attention_backward_queries(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg6: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg7: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg8: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg9: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg10: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg11: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg12: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg13: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg14: !tt.ptr<f32> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<64> : tensor<64xi32>
    %cst_0 = arith.constant dense<256> : tensor<64xi32>
    %cst_1 = arith.constant dense<65536> : tensor<64xi32>
    %cst_2 = arith.constant dense<64> : tensor<64x64xi32>
    %cst_3 = arith.constant dense<65536> : tensor<64x64xi32>
    %cst_4 = arith.constant dense<0.693147182> : tensor<64x64xf32>
    %cst_5 = arith.constant dense<1.000000e+00> : tensor<64x64xf32>
    %cst_6 = arith.constant dense<0.000000e+00> : tensor<64x1xf32>
    %cst_7 = arith.constant dense<-1.000000e+30> : tensor<64x64xf32>
    %cst_8 = arith.constant dense<200> : tensor<64xi32>
    %cst_9 = arith.constant dense<-536870912> : tensor<64xi32>
    %cst_10 = arith.constant dense<100> : tensor<64xi32>
    %cst_11 = arith.constant dense<0.000000e+00> : tensor<64x64xf32>
    %c63_i32 = arith.constant 63 : i32
    %c164_i32 = arith.constant 164 : i32
    %cst_12 = arith.constant dense<0.000000e+00> : tensor<64xf32>
    %cst_13 = arith.constant dense<1024> : tensor<64xi32>
    %cst_14 = arith.constant dense<4096> : tensor<64xi32>
    %cst_15 = arith.constant dense<0.000000e+00> : tensor<64x128xbf16>
    %cst_16 = arith.constant dense<128> : tensor<64x128xi32>
    %cst_17 = arith.constant dense<512> : tensor<64x128xi32>
    %cst_18 = arith.constant dense<524288> : tensor<64x128xi32>
    %cst_19 = arith.constant dense<0.000000e+00> : tensor<64x64xbf16>
    %cst_20 = arith.constant dense<128> : tensor<64x64xi32>
    %cst_21 = arith.constant dense<512> : tensor<64x64xi32>
    %cst_22 = arith.constant dense<524288> : tensor<64x64xi32>
    %c100_i32 = arith.constant 100 : i32
    %c64_i32 = arith.constant 64 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %c16_i32 = arith.constant 16 : i32
    %0 = tt.get_program_id x : i32
    %1 = arith.remui %0, %c16_i32 : i32
    %2 = tt.get_program_id y : i32
    %3 = tt.get_program_id z : i32
    %4 = tt.addptr %arg0, %3 : !tt.ptr<i32>, i32
    %5 = tt.load %4 : !tt.ptr<i32>
    %6 = arith.muli %1, %c64_i32 : i32
    %7 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %8 = tt.splat %6 : i32 -> tensor<64xi32>
    %9 = arith.addi %8, %7 : tensor<64xi32>
    %10 = tt.splat %5 : i32 -> tensor<64xi32>
    %11 = arith.cmpi slt, %9, %10 : tensor<64xi32>
    %12 = tt.expand_dims %11 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
    %13 = tt.broadcast %12 : tensor<64x1xi1> -> tensor<64x64xi1>
    %14 = tt.splat %3 : i32 -> tensor<64x64xi32>
    %15 = arith.muli %14, %cst_22 : tensor<64x64xi32>
    %16 = tt.expand_dims %9 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
    %17 = tt.broadcast %16 : tensor<64x1xi32> -> tensor<64x64xi32>
    %18 = arith.muli %17, %cst_21 : tensor<64x64xi32>
    %19 = arith.addi %15, %18 : tensor<64x64xi32>
    %20 = tt.splat %2 : i32 -> tensor<64x64xi32>
    %21 = arith.muli %20, %cst_20 : tensor<64x64xi32>
    %22 = arith.addi %19, %21 : tensor<64x64xi32>
    %23 = tt.expand_dims %7 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
    %24 = tt.broadcast %23 : tensor<1x64xi32> -> tensor<64x64xi32>
    %25 = arith.addi %22, %24 : tensor<64x64xi32>
    %26 = tt.splat %arg1 : !tt.ptr<bf16> -> tensor<64x64x!tt.ptr<bf16>>
    %27 = tt.addptr %26, %25 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
    %28 = tt.load %27, %13, %cst_19 : tensor<64x64x!tt.ptr<bf16>>
    %29 = tt.make_range {end = 128 : i32, start = 64 : i32} : tensor<64xi32>
    %30 = tt.expand_dims %29 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
    %31 = tt.broadcast %30 : tensor<1x64xi32> -> tensor<64x64xi32>
    %32 = arith.addi %22, %31 : tensor<64x64xi32>
    %33 = tt.addptr %26, %32 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
    %34 = tt.load %33, %13, %cst_19 : tensor<64x64x!tt.ptr<bf16>>
    %35 = tt.broadcast %12 : tensor<64x1xi1> -> tensor<64x128xi1>
    %36 = tt.splat %3 : i32 -> tensor<64x128xi32>
    %37 = arith.muli %36, %cst_18 : tensor<64x128xi32>
    %38 = tt.broadcast %16 : tensor<64x1xi32> -> tensor<64x128xi32>
    %39 = arith.muli %38, %cst_17 : tensor<64x128xi32>
    %40 = arith.addi %37, %39 : tensor<64x128xi32>
    %41 = tt.splat %2 : i32 -> tensor<64x128xi32>
    %42 = arith.muli %41, %cst_16 : tensor<64x128xi32>
    %43 = arith.addi %40, %42 : tensor<64x128xi32>
    %44 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %45 = tt.expand_dims %44 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %46 = tt.broadcast %45 : tensor<1x128xi32> -> tensor<64x128xi32>
    %47 = arith.addi %43, %46 : tensor<64x128xi32>
    %48 = tt.splat %arg4 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %49 = tt.addptr %48, %47 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    %50 = tt.load %49, %35, %cst_15 : tensor<64x128x!tt.ptr<bf16>>
    %51 = tt.splat %3 : i32 -> tensor<64xi32>
    %52 = arith.muli %51, %cst_14 : tensor<64xi32>
    %53 = tt.splat %2 : i32 -> tensor<64xi32>
    %54 = arith.muli %53, %cst_13 : tensor<64xi32>
    %55 = arith.addi %52, %54 : tensor<64xi32>
    %56 = arith.addi %55, %9 : tensor<64xi32>
    %57 = tt.splat %arg5 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %58 = tt.addptr %57, %56 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %59 = tt.load %58, %11, %cst_12 : tensor<64x!tt.ptr<f32>>
    %60 = tt.splat %arg6 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %61 = tt.addptr %60, %47 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    %62 = tt.load %61, %35, %cst_15 : tensor<64x128x!tt.ptr<bf16>>
    %63 = arith.extf %50 : tensor<64x128xbf16> to tensor<64x128xf32>
    %64 = arith.extf %62 : tensor<64x128xbf16> to tensor<64x128xf32>
    %65 = arith.mulf %63, %64 : tensor<64x128xf32>
    %66 = "tt.reduce"(%65) <{axis = 1 : i32}> ({
    ^bb0(%arg15: f32, %arg16: f32):
      %178 = arith.addf %arg15, %arg16 : f32
      tt.reduce.return %178 : f32
    }) : (tensor<64x128xf32>) -> tensor<64xf32>
    %67 = arith.cmpi slt, %9, %cst_13 : tensor<64xi32>
    %68 = tt.splat %arg12 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %69 = tt.addptr %68, %56 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %69, %66, %67 : tensor<64x!tt.ptr<f32>>
    %70 = arith.subi %6, %c100_i32 : i32
    %71 = arith.maxsi %70, %c0_i32 : i32
    %72 = arith.divsi %71, %c64_i32 : i32
    %73 = arith.cmpi sgt, %71, %c0_i32 : i32
    %74 = arith.extui %73 : i1 to i32
    %75 = arith.cmpi slt, %71, %c0_i32 : i32
    %76 = arith.extui %75 : i1 to i32
    %77 = arith.subi %74, %76 : i32
    %78 = arith.cmpi ne, %77, %c1_i32 : i32
    %79 = arith.remsi %71, %c64_i32 : i32
    %80 = arith.cmpi ne, %79, %c0_i32 : i32
    %81 = arith.andi %78, %80 : i1
    %82 = arith.subi %72, %c1_i32 : i32
    %83 = arith.select %81, %82, %72 : i32
    %84 = arith.addi %6, %c164_i32 : i32
    %85 = arith.minsi %84, %5 : i32
    %86 = arith.addi %85, %c63_i32 : i32
    %87 = arith.divsi %86, %c64_i32 : i32
    %88 = arith.cmpi sgt, %86, %c0_i32 : i32
    %89 = arith.extui %88 : i1 to i32
    %90 = arith.cmpi slt, %86, %c0_i32 : i32
    %91 = arith.extui %90 : i1 to i32
    %92 = arith.subi %89, %91 : i32
    %93 = arith.cmpi ne, %92, %c1_i32 : i32
    %94 = arith.remsi %86, %c64_i32 : i32
    %95 = arith.cmpi ne, %94, %c0_i32 : i32
    %96 = arith.andi %93, %95 : i1
    %97 = arith.subi %87, %c1_i32 : i32
    %98 = arith.select %96, %97, %87 : i32
    %99 = arith.cmpi slt, %6, %5 : i32
    %100 = arith.select %99, %98, %83 : i32
    %101:2 = scf.for %arg15 = %83 to %100 step %c1_i32 iter_args(%arg16 = %cst_11, %arg17 = %cst_11) -> (tensor<64x64xf32>, tensor<64x64xf32>)  : i32 {
      %178 = arith.muli %arg15, %c64_i32 : i32
      %179 = tt.splat %178 : i32 -> tensor<64xi32>
      %180 = arith.addi %179, %7 : tensor<64xi32>
      %181 = arith.cmpi slt, %180, %10 : tensor<64xi32>
      %182 = tt.expand_dims %181 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
      %183 = tt.broadcast %182 : tensor<64x1xi1> -> tensor<64x64xi1>
      %184 = tt.expand_dims %180 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %185 = tt.broadcast %184 : tensor<64x1xi32> -> tensor<64x64xi32>
      %186 = arith.muli %185, %cst_21 : tensor<64x64xi32>
      %187 = arith.addi %15, %186 : tensor<64x64xi32>
      %188 = arith.addi %187, %21 : tensor<64x64xi32>
      %189 = arith.addi %188, %24 : tensor<64x64xi32>
      %190 = tt.splat %arg2 : !tt.ptr<bf16> -> tensor<64x64x!tt.ptr<bf16>>
      %191 = tt.addptr %190, %189 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
      %192 = tt.load %191, %183, %cst_19 : tensor<64x64x!tt.ptr<bf16>>
      %193 = arith.addi %188, %31 : tensor<64x64xi32>
      %194 = tt.addptr %190, %193 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
      %195 = tt.load %194, %183, %cst_19 : tensor<64x64x!tt.ptr<bf16>>
      %196 = tt.broadcast %182 : tensor<64x1xi1> -> tensor<64x128xi1>
      %197 = tt.broadcast %184 : tensor<64x1xi32> -> tensor<64x128xi32>
      %198 = arith.muli %197, %cst_17 : tensor<64x128xi32>
      %199 = arith.addi %37, %198 : tensor<64x128xi32>
      %200 = arith.addi %199, %42 : tensor<64x128xi32>
      %201 = arith.addi %200, %46 : tensor<64x128xi32>
      %202 = tt.splat %arg3 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %203 = tt.addptr %202, %201 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %204 = tt.load %203, %196, %cst_15 : tensor<64x128x!tt.ptr<bf16>>
      %205 = arith.subi %9, %cst_10 : tensor<64xi32>
      %206 = arith.select %11, %205, %cst_9 : tensor<64xi1>, tensor<64xi32>
      %207 = arith.subi %5, %c1_i32 : i32
      %208 = tt.splat %207 : i32 -> tensor<64xi32>
      %209 = arith.subi %208, %206 : tensor<64xi32>
      %210 = arith.minsi %209, %cst_8 : tensor<64xi32>
      %211 = tt.expand_dims %180 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
      %212 = tt.expand_dims %206 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %213 = tt.broadcast %211 : tensor<1x64xi32> -> tensor<64x64xi32>
      %214 = tt.broadcast %212 : tensor<64x1xi32> -> tensor<64x64xi32>
      %215 = arith.subi %213, %214 : tensor<64x64xi32>
      %216 = tt.expand_dims %210 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %217 = tt.broadcast %216 : tensor<64x1xi32> -> tensor<64x64xi32>
      %218 = arith.cmpi ule, %215, %217 : tensor<64x64xi32>
      %219 = tt.trans %192 {order = array<i32: 1, 0>} : tensor<64x64xbf16> -> tensor<64x64xbf16>
      %220 = tt.dot %28, %219, %cst_11, inputPrecision = tf32 : tensor<64x64xbf16> * tensor<64x64xbf16> -> tensor<64x64xf32>
      %221 = tt.trans %195 {order = array<i32: 1, 0>} : tensor<64x64xbf16> -> tensor<64x64xbf16>
      %222 = tt.dot %34, %221, %cst_11, inputPrecision = tf32 : tensor<64x64xbf16> * tensor<64x64xbf16> -> tensor<64x64xf32>
      %223 = arith.addf %220, %222 : tensor<64x64xf32>
      %224 = arith.select %218, %223, %cst_7 : tensor<64x64xi1>, tensor<64x64xf32>
      %225 = tt.expand_dims %59 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
      %226 = arith.subf %cst_6, %225 : tensor<64x1xf32>
      %227 = tt.broadcast %226 : tensor<64x1xf32> -> tensor<64x64xf32>
      %228 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %224, %cst_5, %227 : tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
      %229 = tt.elementwise_inline_asm "ex2.approx.ftz.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %228 : tensor<64x64xf32> -> tensor<64x64xf32>
      %230 = tt.trans %204 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %231 = tt.dot %50, %230, %cst_11, inputPrecision = tf32 : tensor<64x128xbf16> * tensor<128x64xbf16> -> tensor<64x64xf32>
      %232 = tt.expand_dims %66 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
      %233 = tt.broadcast %232 : tensor<64x1xf32> -> tensor<64x64xf32>
      %234 = arith.subf %231, %233 : tensor<64x64xf32>
      %235 = arith.mulf %229, %234 : tensor<64x64xf32>
      %236 = arith.truncf %235 : tensor<64x64xf32> to tensor<64x64xbf16>
      %237 = tt.dot %236, %192, %cst_11, inputPrecision = tf32 : tensor<64x64xbf16> * tensor<64x64xbf16> -> tensor<64x64xf32>
      %238 = arith.addf %arg16, %237 : tensor<64x64xf32>
      %239 = tt.dot %236, %195, %cst_11, inputPrecision = tf32 : tensor<64x64xbf16> * tensor<64x64xbf16> -> tensor<64x64xf32>
      %240 = arith.addf %arg17, %239 : tensor<64x64xf32>
      scf.yield %238, %240 : tensor<64x64xf32>, tensor<64x64xf32>
    }
    %102 = arith.mulf %101#0, %cst_4 : tensor<64x64xf32>
    %103 = arith.mulf %101#1, %cst_4 : tensor<64x64xf32>
    %104 = arith.minsi %5, %c0_i32 : i32
    %105 = arith.addi %6, %104 : i32
    %106 = tt.splat %105 : i32 -> tensor<64xi32>
    %107 = arith.addi %106, %7 : tensor<64xi32>
    %108 = arith.cmpi slt, %107, %10 : tensor<64xi32>
    %109 = tt.expand_dims %108 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
    %110 = tt.broadcast %109 : tensor<64x1xi1> -> tensor<64x64xi1>
    %111 = arith.muli %14, %cst_3 : tensor<64x64xi32>
    %112 = tt.expand_dims %107 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
    %113 = tt.broadcast %112 : tensor<64x1xi32> -> tensor<64x64xi32>
    %114 = arith.muli %113, %cst_2 : tensor<64x64xi32>
    %115 = arith.addi %111, %114 : tensor<64x64xi32>
    %116 = arith.addi %115, %24 : tensor<64x64xi32>
    %117 = tt.splat %arg7 : !tt.ptr<f32> -> tensor<64x64x!tt.ptr<f32>>
    %118 = tt.addptr %117, %116 : tensor<64x64x!tt.ptr<f32>>, tensor<64x64xi32>
    %119 = tt.load %118, %110, %cst_11 : tensor<64x64x!tt.ptr<f32>>
    %120 = tt.splat %arg8 : !tt.ptr<f32> -> tensor<64x64x!tt.ptr<f32>>
    %121 = tt.addptr %120, %116 : tensor<64x64x!tt.ptr<f32>>, tensor<64x64xi32>
    %122 = tt.load %121, %110, %cst_11 : tensor<64x64x!tt.ptr<f32>>
    %123 = arith.mulf %102, %122 : tensor<64x64xf32>
    %124 = arith.mulf %103, %119 : tensor<64x64xf32>
    %125 = arith.addf %123, %124 : tensor<64x64xf32>
    %126 = arith.cmpi slt, %107, %cst_13 : tensor<64xi32>
    %127 = tt.expand_dims %126 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
    %128 = tt.broadcast %127 : tensor<64x1xi1> -> tensor<64x64xi1>
    %129 = arith.truncf %125 : tensor<64x64xf32> to tensor<64x64xbf16>
    %130 = arith.muli %113, %cst_21 : tensor<64x64xi32>
    %131 = arith.addi %15, %130 : tensor<64x64xi32>
    %132 = arith.addi %131, %21 : tensor<64x64xi32>
    %133 = arith.addi %132, %24 : tensor<64x64xi32>
    %134 = tt.splat %arg11 : !tt.ptr<bf16> -> tensor<64x64x!tt.ptr<bf16>>
    %135 = tt.addptr %134, %133 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
    tt.store %135, %129, %128 : tensor<64x64x!tt.ptr<bf16>>
    %136 = arith.mulf %103, %122 : tensor<64x64xf32>
    %137 = arith.mulf %102, %119 : tensor<64x64xf32>
    %138 = arith.subf %136, %137 : tensor<64x64xf32>
    %139 = arith.truncf %138 : tensor<64x64xf32> to tensor<64x64xbf16>
    %140 = arith.addi %132, %31 : tensor<64x64xi32>
    %141 = tt.addptr %134, %140 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
    tt.store %141, %139, %128 : tensor<64x64x!tt.ptr<bf16>>
    %142 = tt.addptr %26, %133 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
    %143 = tt.load %142, %110, %cst_19 : tensor<64x64x!tt.ptr<bf16>>
    %144 = tt.addptr %26, %140 : tensor<64x64x!tt.ptr<bf16>>, tensor<64x64xi32>
    %145 = tt.load %144, %110, %cst_19 : tensor<64x64x!tt.ptr<bf16>>
    %146 = arith.extf %143 : tensor<64x64xbf16> to tensor<64x64xf32>
    %147 = arith.mulf %146, %103 : tensor<64x64xf32>
    %148 = arith.extf %145 : tensor<64x64xbf16> to tensor<64x64xf32>
    %149 = arith.mulf %148, %102 : tensor<64x64xf32>
    %150 = arith.subf %147, %149 : tensor<64x64xf32>
    %151 = arith.muli %51, %cst_13 : tensor<64xi32>
    %152 = arith.addi %151, %107 : tensor<64xi32>
    %153 = tt.splat %arg9 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %154 = tt.addptr %153, %152 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %155 = tt.load %154, %108, %cst_12 : tensor<64x!tt.ptr<f32>>
    %156 = tt.expand_dims %155 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
    %157 = tt.broadcast %156 : tensor<64x1xf32> -> tensor<64x64xf32>
    %158 = arith.mulf %157, %150 : tensor<64x64xf32>
    %159 = "tt.reduce"(%158) <{axis = 0 : i32}> ({
    ^bb0(%arg15: f32, %arg16: f32):
      %178 = arith.addf %arg15, %arg16 : f32
      tt.reduce.return %178 : f32
    }) : (tensor<64x64xf32>) -> tensor<64xf32>
    %160 = tt.splat %1 : i32 -> tensor<64xi32>
    %161 = arith.muli %160, %cst_1 : tensor<64xi32>
    %162 = arith.muli %51, %cst_0 : tensor<64xi32>
    %163 = arith.addi %161, %162 : tensor<64xi32>
    %164 = arith.muli %53, %cst : tensor<64xi32>
    %165 = arith.addi %163, %164 : tensor<64xi32>
    %166 = arith.addi %165, %7 : tensor<64xi32>
    %167 = tt.splat %arg13 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %168 = tt.addptr %167, %166 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %168, %159 : tensor<64x!tt.ptr<f32>>
    %169 = tt.splat %arg10 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %170 = tt.addptr %169, %152 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %171 = tt.load %170, %108, %cst_12 : tensor<64x!tt.ptr<f32>>
    %172 = tt.expand_dims %171 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
    %173 = tt.broadcast %172 : tensor<64x1xf32> -> tensor<64x64xf32>
    %174 = arith.mulf %173, %150 : tensor<64x64xf32>
    %175 = "tt.reduce"(%174) <{axis = 0 : i32}> ({
    ^bb0(%arg15: f32, %arg16: f32):
      %178 = arith.addf %arg15, %arg16 : f32
      tt.reduce.return %178 : f32
    }) : (tensor<64x64xf32>) -> tensor<64xf32>
    %176 = tt.splat %arg14 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %177 = tt.addptr %176, %166 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %177, %175 : tensor<64x!tt.ptr<f32>>
    tt.return
  }
}
